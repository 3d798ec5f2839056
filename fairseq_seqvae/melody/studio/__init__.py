"""The melody studio: a web page on this machine on which a trained model is played.

`serving` starts it, `server` answers the browser, `service` says what can be asked of a model, `model` is the model,
`package` makes the folder of a model that ships, `keepsake` the page that plays without a server. The page itself is in
`page/`, the model that ships in `model/`.
"""
