static int map_memory(char **map, size_t length, int flags, int advice)
{
	char *at = mmap(room(length, 0), length, PROT_READ | PROT_WRITE,
			flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (at == MAP_FAILED)
		return -1;
	*map = at;
	return madvise(at, length, advice);
}
