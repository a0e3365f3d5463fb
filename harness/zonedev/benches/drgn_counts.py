"""Reads _refcount of every ZONE_DEVICE page of a dump with drgn, as a loop over page objects and as
one read of each range; prints the seconds of both, and the pages.

Usage: drgn_counts.py VMLINUX DUMP
"""
import array
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
each = time.monotonic() - started

size = prog.type("struct page").size
offset = drgn.offsetof(prog.type("struct page"), "_refcount") // 4
started = time.monotonic()
bulk = 0
for first, last in ranges:
    # What has no struct pages is left out: a range may be larger than its map.
    at = pfn_to_page(prog, first).value_()
    left = last - first + 1
    while left:
        part = min(left, 32768)
        try:
            words = array.array("i", prog.read(at, part * size))
            bulk += len(words[offset :: size // 4])
        except drgn.FaultError:
            pass
        at += part * size
        left -= part
print(each, time.monotonic() - started, count)
