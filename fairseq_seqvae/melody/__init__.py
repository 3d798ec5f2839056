"""Melodies as token sequences: MIDI, ABC and MusicXML files to training lines, model output to files that sound.

Needs numpy only; `midi` also needs mido, `abc_notation` abcnotes and `plot` matplotlib, imported when first used. The
token format is defined in `tokens`; `music` reads and writes tunes; `python -m fairseq_seqvae.melody --help` lists the
commands.
"""
