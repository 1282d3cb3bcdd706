"""What a reader sees: figures, tables and sentences of a notebook, and the HTML report.

``captions`` shows and stores figures and tables with their captions, ``plots`` draws in the field's conventions,
``page`` writes the report of all finished runs. No part of a run's identity: editing here computes nothing again.

May import: study, ct. Start reading in ``captions``.
"""

from ldct_utils.report.captions import bracket, brackets, figure, figures, plural, shown, table, text

__all__ = ["bracket", "brackets", "figure", "figures", "plural", "shown", "table", "text"]
