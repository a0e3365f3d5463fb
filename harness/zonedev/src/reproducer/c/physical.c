/* Where in the device a byte of the file is; -1 where it has no block with data. */
static off_t physical(const struct fiemap *blocks, uint64_t at)
{
	const unsigned int no_data = FIEMAP_EXTENT_UNKNOWN |
				     FIEMAP_EXTENT_DELALLOC |
				     FIEMAP_EXTENT_NOT_ALIGNED |
				     FIEMAP_EXTENT_UNWRITTEN;

	for (unsigned int i = 0; i < blocks->fm_mapped_extents; i++) {
		const struct fiemap_extent *e = &blocks->fm_extents[i];

		if (at >= e->fe_logical && at - e->fe_logical < e->fe_length &&
		    !(e->fe_flags & no_data))
			return e->fe_physical + (at - e->fe_logical);
	}
	return -1;
}
