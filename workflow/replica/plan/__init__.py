"""The plan of a reproduction: every job that the configuration asks for, and its key.

A job's key is a digest of its own specification, of the code that it really uses and of the
keys of the jobs that it builds on. The workflow hands it to each job as a parameter, so a job
runs again exactly when something it depends on has changed, and every artifact carries the key
that it was made under. Keep imports light: Snakemake loads this at every start.
"""

from replica.plan.layout import Plan
from replica.plan.make import make_plan, whole_plan
from replica.plan.parts import Part, cost_of, size_of

__all__ = ["Part", "Plan", "cost_of", "make_plan", "size_of", "whole_plan"]
