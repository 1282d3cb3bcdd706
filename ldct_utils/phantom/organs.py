"""Labels of the simulated patients' organs, as ``organ_masks`` hold them."""

# label in organ_masks: name
ORGANS = dict(enumerate((
    "air", "skin", "fat", "muscle", "bone", "liver", "spleen", "kidney", "bowel", "gas", "vessel", "lung", "heart",
    "grey matter", "white matter", "cerebrospinal fluid", "pancreas", "stomach", "gallbladder", "airway", "table",
)))  # fmt: skip
LABELS = {name: label for label, name in ORGANS.items()}
