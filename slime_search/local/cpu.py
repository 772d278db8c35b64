"""Process settings that make a small model quick on few cores."""

# glibc hands large buffers back to the kernel after each use and OpenMP threads spin while they wait; on two cores
# both cost more than the small model's arithmetic.
CPU_ENV = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}
