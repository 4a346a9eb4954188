/* What holds in a page is counted; what does not is printed. */
export const counted = {made: 0, failed: 0};

export function check(condition, what) {
  counted.made++;
  if (!condition) {
    counted.failed++;
    console.log("not so: " + what);
  }
}

/* Prints the count, last, and ends the process. */
export function finish() {
  console.log(`${counted.made} checks, ${counted.failed} failed`);
  process.exit(counted.failed ? 1 : 0);
}
