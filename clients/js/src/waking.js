/** When the network, the page or the machine is back. */

const GLANCE = 5; // seconds between looks at the wall clock

/**
 * Call `woke` when a browser is online again, when its page is visible again or goes on after a freeze, and when the wall
 * clock shows that the machine slept: the clock of timers stands still meanwhile. Return the function that ends this.
 */
export function watch(woke) {
  const ends = [];
  const listen = (target, name, heard) => {
    target?.addEventListener?.(name, heard);
    ends.push(() => target?.removeEventListener?.(name, heard));
  };
  listen(globalThis, "online", woke);
  listen(globalThis.document, "resume", woke);
  listen(globalThis.document, "visibilitychange", () => {
    if (document.visibilityState === "visible") woke();
  });
  const difference = () => (Date.now() - performance.now()) / 1000;
  let known = difference();
  const glance = setInterval(() => {
    const present = difference();
    if (Math.abs(present - known) > GLANCE) woke();
    known = present;
  }, GLANCE * 1000);
  glance.unref?.(); // Node shall not stay alive for it
  ends.push(() => clearInterval(glance));
  return () => ends.forEach((end) => end());
}
