"""Encoders from checkpoints that others published, given as a file or a folder; nothing is downloaded."""
