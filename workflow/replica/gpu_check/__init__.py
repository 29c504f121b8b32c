"""Does this machine's GPU compute what the processor computes, and how fast? One command says it.

It is for the first minutes on a GPU: runs of the smoke scale, one or more of each kind, on the GPU
and on the processor; resumption; several jobs on one GPU; a full GPU; and speed. Nothing here is in
any key.
"""
