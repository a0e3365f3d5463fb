static int map_file(char **map, const char *path, off_t offset, size_t length,
		    int flags, size_t by)
{
	int private = (flags & MAP_TYPE) == MAP_PRIVATE;
	int fd = open(path, private ? O_RDONLY : O_RDWR);
	char *at;

	if (fd < 0)
		return -1;
	at = mmap(room(length, offset + by), length, PROT_READ | PROT_WRITE,
		  flags | MAP_FIXED, fd, offset);
	close(fd);
	if (at == MAP_FAILED)
		return -1;
	*map = at;
	return 0;
}
