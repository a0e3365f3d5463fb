/* The blocks of a range are the other file's as well; a length of 0: to the end. */
static int share(const char *path, off_t offset, size_t length, const char *to,
		 off_t to_offset)
{
	int from = open(path, O_RDWR);
	int fd = open(to, O_RDWR | O_CREAT, 0600);
	struct file_clone_range range = {
		.src_fd = from,
		.src_offset = offset,
		.src_length = length,
		.dest_offset = to_offset,
	};
	int result = -1;

	if (from >= 0 && fd >= 0)
		result = ioctl(fd, FICLONERANGE, &range);
	close(from);
	close(fd);
	return result;
}
