static int dedupe(const char *path, off_t offset, size_t length, const char *to,
		  off_t to_offset)
{
	int from = open(path, O_RDWR);
	int fd = open(to, O_RDWR);
	struct {
		struct file_dedupe_range range;
		struct file_dedupe_range_info info;
	} ask = {
		.range = {
			.src_offset = offset,
			.src_length = length,
			.dest_count = 1,
		},
		.info = { .dest_fd = fd, .dest_offset = to_offset },
	};
	int result = -1;

	if (from >= 0 && fd >= 0)
		result = ioctl(from, FIDEDUPERANGE, &ask);
	if (!result && ask.info.status == FILE_DEDUPE_RANGE_DIFFERS) {
		errno = EBADE;
		result = -1;
	} else if (!result && ask.info.status < 0) {
		errno = -ask.info.status;
		result = -1;
	}
	close(from);
	close(fd);
	return result;
}
