"""Melodies as token sequences: tunes and MIDI files to training lines, model output to MIDI files and pictures.

Needs numpy only; `midi` also needs mido and `plot` matplotlib, imported when first used. The token format is defined
in `tokens`; `python -m fairseq_seqvae.melody --help` lists the commands.
"""
