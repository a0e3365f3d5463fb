/* The same, by the state that kmem keeps where it does. */
static int memory_state(const char *device, const char *state,
			const char *of_blocks)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/dax/devices/%s/state", device);
	return access(path, F_OK) ? memory_blocks(device, of_blocks)
				  : put(path, state);
}
