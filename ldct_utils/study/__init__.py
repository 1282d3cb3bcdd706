"""How a run is named, stored and found again. A study is a set of runs. Code here is no part of a run's id.

``paths`` knows where the study lives, ``parameters`` reads a notebook's parameters, ``machine`` resolves what depends
on the computer, ``identity`` makes a run's id and names its folder, ``runs`` stores and reads runs, ``planning`` turns
a study file into runs, ``sources`` names where slices come from, ``wheels`` fetches data files from the package
registry, ``files`` writes whole files or none.

May import: nothing. Start reading in ``runs``: ``start`` is what every notebook calls first.
"""
