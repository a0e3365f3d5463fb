static int read_whole(const char *path)
{
	char text[4096];
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return -1;
	while ((n = read(fd, text, sizeof(text))) > 0)
		;
	close(fd);
	return n;
}
