"""The passes compiled ahead of time from their own source, and the way to them.

A pass is exported with dynamic rows and classes, compiled by AOTInductor into a shared library, and
kept in a folder whose name is made of the source, the version of torch and the processor: what lies
there is what this machine would compile now. Nothing is compiled when an evaluation asks for it.
"""
