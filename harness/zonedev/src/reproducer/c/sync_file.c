static int sync_file(const char *path)
{
	int fd = open(path, O_RDWR), result;

	if (fd < 0)
		return -1;
	result = fsync(fd);
	close(fd);
	return result;
}
