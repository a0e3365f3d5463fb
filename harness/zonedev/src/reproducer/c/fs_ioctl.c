static int fs_ioctl(const char *mount_point, unsigned long command,
		    unsigned int value)
{
	int fd = open(mount_point, O_RDONLY), result;

	if (fd < 0)
		return -1;
	result = ioctl(fd, command, &value);
	close(fd);
	return result;
}
