"""How a run is named, stored and found again: nothing here decides what a result is.

``paths`` knows where the study lives, ``parameters`` reads a notebook's parameters, ``machine`` resolves what depends
on the computer, ``identity`` makes a run's id, ``runs`` stores and reads runs, ``planning`` turns a study file into
runs.

May import: nothing. Start reading in ``runs``: ``start`` is what every notebook calls first.
"""
