static int change(const char *path, int mode, off_t offset, off_t length)
{
	int fd = open(path, O_RDWR), result;

	if (fd < 0)
		return -1;
	result = fallocate(fd, mode, offset, length);
	close(fd);
	return result;
}
