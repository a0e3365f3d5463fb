/* A call that blocks, in a thread of its own. */
struct blocked {
	pthread_t thread;
	int (*call)(void);
	int result;
	int error;
	int ended;
};

static void *call_it(void *arg)
{
	struct blocked *b = arg;

	b->result = b->call();
	b->error = errno;
	return NULL;
}

static int blocks(struct blocked *b, int (*call)(void))
{
	b->call = call;
	b->ended = 0;
	errno = pthread_create(&b->thread, NULL, call_it, b);
	if (errno)
		return -1;
	usleep(500000);
	b->ended = !pthread_tryjoin_np(b->thread, NULL);
	errno = EALREADY;
	return -b->ended;
}
