"""What every room uses: arrays, boxes, results, options, files, threads. It needs NumPy alone."""
