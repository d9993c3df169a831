// What idle.html has seen when it has been idle for so many seconds, or sooner if it was closed.
(seconds) =>
  new Promise((resolve) => {
    const look = () => {
      const { opened, closed, events } = seen;
      const over = closed !== null || (opened !== null && performance.now() - opened > seconds * 1000);
      if (over) resolve({ closed, events });
      else setTimeout(look, 100);
    };
    look();
  })
