static int move_map(char **map, size_t length, size_t offset)
{
	char *from = *map;
	char *to = mremap(from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
			  room(length, offset));

	if (to == MAP_FAILED)
		return -1;
	*map = to;
	return gone(from, length);
}
