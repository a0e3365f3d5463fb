/* What a thread of a race does, over and over, and the memory that it is about. */
struct arm {
	int (*once)(void);
	char **map;
	size_t offset, length;
	size_t of_file;		/* length of the mapping, where it is a file's */
	int (*look)(void);	/* what the device sees is what a load finds */
};

static struct {
	const struct arm *arms;
	int threads;
	unsigned int rounds, turns;
	uint64_t seed;
	pthread_barrier_t barrier;
	atomic_uint led;
	atomic_ulong done, ended, wrong;
} racing;

/* splitmix64 */
static unsigned int delay(uint64_t round, uint64_t thread)
{
	uint64_t z = racing.seed + round * 0x9e3779b97f4a7c15 +
		     thread * 0xbf58476d1ce4e5b9;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (z ^ z >> 31) % 4096;
}

/* A sum of the words that a thread finds in the first pages of each arm. */
static uint64_t look_around(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < racing.threads; i++) {
		const struct arm *arm = &racing.arms[i];

		for (size_t at = 0; at < arm->length && at < 16 * PAGE; at += PAGE) {
			uint64_t word = 0;

			if (load_word(*arm->map + arm->offset + at, &word))
				word = -1;
			sum = sum * 31 + word;
		}
	}
	return sum;
}

static void *run_arm(void *arg)
{
	const struct arm *arm = arg;
	static _Atomic uint64_t seen;

	for (unsigned int round = 0; round < racing.rounds; round++) {
		int first = arm == racing.arms;

		race_round = round;
		pthread_barrier_wait(&racing.barrier);
		for (unsigned int n = delay(round, arm - racing.arms); n; n--)
			__asm__ volatile("pause");
		for (unsigned int turn = 1;; turn++) {
			arm->once();
			racing.done++;
			if (first && turn == racing.turns)
				racing.led = round + 1;
			if (racing.turns == 1 || racing.led > round)
				break;
		}
		if (round % 3)
			continue;
		/* All must see the same now, while nobody does anything. */
		pthread_barrier_wait(&racing.barrier);
		if (first)
			seen = look_around();
		pthread_barrier_wait(&racing.barrier);
		if (!first && seen != look_around())
			racing.wrong++;
		if (arm->look && arm->look())
			racing.wrong++;
		pthread_barrier_wait(&racing.barrier);
	}
	racing.ended++;
	return NULL;
}

static int race(const struct arm *arms, int threads, unsigned int rounds,
		unsigned int turns, uint64_t seed)
{
	pthread_t thread[threads];
	unsigned long last = 0;

	racing.arms = arms;
	racing.threads = threads;
	racing.rounds = rounds;
	racing.turns = turns;
	racing.seed = seed;
	racing.led = 0;
	racing.ended = 0;
	racing.wrong = 0;
	pthread_barrier_init(&racing.barrier, NULL, threads);
	for (int i = 0; i < threads; i++)
		pthread_create(&thread[i], NULL, run_arm, (void *)&arms[i]);
	/* A truncate may wait for entries that nobody takes away. */
	while (racing.ended < (unsigned int)threads) {
		usleep(50000);
		for (int i = 0; i < threads && racing.done == last; i++) {
			if (arms[i].of_file)
				madvise(*arms[i].map, arms[i].of_file,
					MADV_DONTNEED);
		}
		last = racing.done;
	}
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	errno = EBADMSG;
	return racing.wrong ? -1 : 0;
}
