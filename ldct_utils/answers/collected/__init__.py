"""Stored results of a study to the numbers that its answers are made of: one function a block, one module a subject.

A function is given the finished runs of its notebook, in the order of the plan, and returns what JSON can hold. Numbers
and verdicts were stored by that notebook; where it stored a table by patient the interval is taken here. Which block is
whose stands in ``answers.collect``.
"""
