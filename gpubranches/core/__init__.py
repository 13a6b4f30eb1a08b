"""What every room uses: arrays, bitmaps, boxes, results, options, files, threads. It needs NumPy alone."""
