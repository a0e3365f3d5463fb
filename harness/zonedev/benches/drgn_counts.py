"""Reads _refcount of every ZONE_DEVICE page of a dump with drgn; prints seconds and pages.

Usage: drgn_counts.py VMLINUX DUMP
"""
import sys
import time

import drgn
from drgn.helpers.linux.mm import pfn_to_page

prog = drgn.Program()
prog.set_core_dump(sys.argv[2])
prog.load_debug_info([sys.argv[1]])

iomem = prog["iomem_resource"]


def resources(node):
    while node:
        yield node
        yield from resources(node.child)
        node = node.sibling


ranges = []
for r in resources(iomem.child):
    name = r.name.string_().decode()
    if name.startswith(("namespace", "dax", "hmm_dmirror")):
        ranges.append((r.start.value_() >> 12, r.end.value_() >> 12))

started = time.monotonic()
count = 0
for first, last in ranges:
    page = pfn_to_page(prog, first)
    for i in range(last - first + 1):
        try:
            page[i]._refcount.counter.value_()
            count += 1
        except drgn.FaultError:
            pass
print(time.monotonic() - started, count)
