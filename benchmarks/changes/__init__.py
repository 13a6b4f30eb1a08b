"""Appends and deletions while readers search and find all."""
