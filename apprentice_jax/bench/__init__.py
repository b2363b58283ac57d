"""Measurements of speed, behind `apprentice bench`."""
