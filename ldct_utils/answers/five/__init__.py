"""The five answers of the report's first page in words, one module an answer: its sentences, and what else is known.

``answer`` of a module returns two lists of sentences: the answer, short enough to be read in passing, and what else is
known, which is folded away. Both are empty where the study did not ask. What computed readers see has a module of its
own; the fifth answer is one sentence of ``said``, and ``front`` lists all five.
"""
