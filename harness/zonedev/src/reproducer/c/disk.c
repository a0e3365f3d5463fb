/*
 * A network block device that withholds its answers while `held`: a transfer to
 * or from it stays in flight.
 */
struct disk {
	atomic_int held;
	atomic_ulong came;	/* bytes of transfers that were asked for */
	aio_context_t aio;
	int fd;
	size_t length;
	char *data;
};

#define DISK_SIZE (64 * MB)

static void answer(struct disk *disk, int server, struct nbd_request *request)
{
	struct nbd_reply reply = { .magic = htonl(NBD_REPLY_MAGIC) };

	memcpy(&reply.handle, &request->handle, sizeof(reply.handle));
	send(server, &reply, sizeof(reply), 0);
	if (ntohl(request->type) == NBD_CMD_READ)
		send(server, disk->data + be64toh(request->from),
		     ntohl(request->len), 0);
}

static void serve(struct disk *disk, int server)
{
	struct nbd_request requests[256];
	struct pollfd ready = { .fd = server, .events = POLLIN };
	int n = 0;

	for (;;) {
		while (n && !disk->held)
			answer(disk, server, &requests[--n]);
		if (n == 256 || poll(&ready, 1, 5) <= 0)
			continue;
		if (recv(server, &requests[n], sizeof(requests[n]),
			 MSG_WAITALL) <= 0)
			_exit(0);
		if (ntohl(requests[n].type) == NBD_CMD_WRITE)
			recv(server, disk->data + be64toh(requests[n].from),
			     ntohl(requests[n].len), MSG_WAITALL);
		disk->came += ntohl(requests[n++].len);
	}
}

/* Two processes: one answers, the other one drives the device in the kernel. */
static struct disk *make_disk(const char *path)
{
	struct disk *disk = mmap(NULL, PAGE + DISK_SIZE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int ends[2], fd = open(path, O_RDWR);

	if (disk == MAP_FAILED || fd < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) {
		perror(path);
		exit(2);
	}
	disk->data = (char *)disk + PAGE;
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[1]);
		serve(disk, ends[0]);
	}
	close(ends[0]);
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!ioctl(fd, NBD_SET_BLKSIZE, PAGE) &&
		    !ioctl(fd, NBD_SET_SIZE_BLOCKS, DISK_SIZE / PAGE) &&
		    !ioctl(fd, NBD_SET_TIMEOUT, 36000UL) &&
		    !ioctl(fd, NBD_SET_SOCK, ends[1]))
			ioctl(fd, NBD_DO_IT);
		perror(path);
		_exit(0);
	}
	close(ends[1]);
	close(fd);
	/* It has its size when it is connected. */
	for (int i = 0; i < 1000; i++) {
		uint64_t size = 0;

		fd = open(path, O_RDONLY);
		ioctl(fd, BLKGETSIZE64, &size);
		close(fd);
		if (size)
			break;
		usleep(10000);
	}
	return disk;
}
