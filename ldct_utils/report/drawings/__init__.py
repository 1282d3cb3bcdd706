"""The figures of the notebooks, one module a subject: each takes tables and images and returns a matplotlib figure.

What they share (windows, colours, labels of axes) stands in ``report.plots``. Nothing is computed here that a reader
could quote: numbers come from the tables that a figure is drawn from.
"""
