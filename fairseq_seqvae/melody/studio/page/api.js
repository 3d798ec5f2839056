// What the page asks of the server: its own, and nothing else.

async function answer(response) {
  if (response.ok) return response;
  let sentence = `the studio answered ${response.status}`;
  try {
    sentence = (await response.json()).error;
  } catch {
    // no JSON: the status must do
  }
  throw new Error(sentence);
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new Error("the studio does not answer: is its command still running?");
  }
}

export async function ask(path) {
  return (await answer(await reach(`api/${path}`))).json();
}

async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return answer(await reach(`api/${path}`, { method: "POST", headers, body: JSON.stringify(body) }));
}

export async function tell(path, body) {
  return (await post(path, body)).json();
}

export async function sendFile(file, voice, stepsPerQuarter) {
  const query = new URLSearchParams({ name: file.name.slice(-150), steps_per_quarter: stepsPerQuarter });
  if (voice) query.set("voice", voice);
  const headers = { "Content-Type": "application/octet-stream" };
  return (await answer(await reach(`api/read?${query}`, { method: "POST", headers, body: file }))).json();
}

export async function fetchFile(body) {
  const response = await post("write", body);
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") || "");
  return { blob: await response.blob(), name: name ? name[1] : `melody.${body.format}` };
}

export function saveBlob(blob, name) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
}
