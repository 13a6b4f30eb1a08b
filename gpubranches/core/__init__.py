"""Modules that every room uses: arrays, bitmaps, boxes, results, options, files, threads. They need only NumPy."""
