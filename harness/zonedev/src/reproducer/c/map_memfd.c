/* Private memory of a file without blocks. */
static int map_memfd(char **map, size_t length)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);
	char *at;

	if (fd < 0 || ftruncate(fd, length))
		return -1;
	at = mmap(room(length, 0), length, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_FIXED, fd, 0);
	close(fd);
	if (at == MAP_FAILED)
		return -1;
	*map = at;
	return madvise(at, length, MADV_NOHUGEPAGE);
}
