"""What is left out so that every run and every report starts a second sooner."""

import sys


def without_web_address_grammar():
    """Keep jsonschema, by which notebooks are read, from compiling a grammar of web addresses (a second) at its import.

    It does so wherever the package rfc3987_syntax can be imported, and does without where it cannot; None in
    ``sys.modules`` stands for the latter. Call it before anything imports jsonschema. The format of the addresses in
    a notebook is then not checked, and no notebook has any.
    """
    sys.modules.setdefault("rfc3987_syntax", None)
