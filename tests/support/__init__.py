"""Scripted servers, small real tokenizers and independent checks that the tests share."""
