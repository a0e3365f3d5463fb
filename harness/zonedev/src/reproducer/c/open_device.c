static int open_device(int *fd, const char *path)
{
	int inherited = *fd;

	*fd = open(path, O_RDWR);
	if (inherited >= 0)
		close(inherited);
	return *fd < 0 ? -1 : 0;
}
