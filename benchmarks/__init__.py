"""The figures of the line, as ratios in one run: against the limit, against Pillow, idle and under load."""
