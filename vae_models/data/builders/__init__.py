"""Builds each data set from its files or its rule, as the module that has it says. Splits are fixed: no seed changes
them.
"""
