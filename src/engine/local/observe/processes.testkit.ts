/** Instructions for x86-64: another thread waits for ever, the first one ends. Linux then calls the process a zombie. */
export const FIRST_THREAD_ENDS = Buffer.from([
  // clone(VM | FS | FILES | SIGHAND | THREAD | SYSVSEM, 0, 0, 0, 0)
  ...[
    0xbf, 0, 0x0f, 5, 0, 0x31, 0xf6, 0x31, 0xd2, 0x4d, 0x31, 0xd2, 0x4d, 0x31, 0xc0, 0xb8, 56, 0, 0, 0, 0x0f,
    5,
  ],
  // The new thread gets 0 and goes on at the end; the first one does exit(0), which ends a thread only.
  ...[0x85, 0xc0, 0x74, 9, 0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 5],
  // again: pause(); jmp again
  ...[0xb8, 34, 0, 0, 0, 0x0f, 5, 0xeb, 0xf7],
])
