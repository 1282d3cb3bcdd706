"""What a reader sees: figures, tables and sentences of a notebook, and the HTML report.

``captions`` shows and stores figures and tables with their captions, ``sentences`` writes numbers as they are read,
``metric_words`` says what metrics and observers find, ``plots`` draws in the field's conventions, ``drawings`` holds
the figures of the notebooks, one module a subject, and ``page`` writes the report of all finished runs. No part of a
run's identity: editing here computes nothing again.

May import: study, ct. Start reading in ``captions``.
"""

from ldct_utils.report.captions import figure, figures, shown, table, text
from ldct_utils.report.sentences import apart, bars, interval, listed, number, percent, plural, some

__all__ = [
    "apart", "bars", "figure", "figures", "interval", "listed", "number", "percent", "plural", "shown", "some", "table",
    "text",
]  # fmt: skip
