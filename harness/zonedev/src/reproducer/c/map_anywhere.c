/* At an address of the kernel's choice, which huge entries must fit. */
static int map_anywhere(char **map, const char *path, off_t offset,
			size_t length, int flags)
{
	int fd = open(path, O_RDWR);
	char *at;

	if (fd < 0)
		return -1;
	at = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, offset);
	close(fd);
	if (at == MAP_FAILED)
		return -1;
	*map = at;
	errno = EADDRNOTAVAIL;
	return ((uintptr_t)at - offset) % (2 * MB) ? -1 : 0;
}
