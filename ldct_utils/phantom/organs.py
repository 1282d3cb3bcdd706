"""Procedural anatomy of the simulated patients: shapes in mm, drawn slice by slice at any z.

Axes: x to the image's right (the patient's left), y down (posterior), z up (cranial), origin in the middle of the body.
"""

# label in organ_masks: name
ORGANS = dict(enumerate((
    "air", "skin", "fat", "muscle", "bone", "liver", "spleen", "kidney", "bowel", "gas", "vessel", "lung", "heart",
    "grey matter", "white matter", "cerebrospinal fluid", "pancreas", "stomach", "gallbladder", "airway", "table",
)))  # fmt: skip
LABELS = {name: label for label, name in ORGANS.items()}
