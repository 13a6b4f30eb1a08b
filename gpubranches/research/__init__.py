"""Measurements of quality, of codes and of speed. The product imports nothing from here."""
