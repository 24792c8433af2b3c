"use strict";
// Plotly tells of points, and a step has none between its ends. This tells what holds under the
// pointer: of each curve its value at that radius, of each histogram the images of that bin.
const told = (() => {
  const DIGITS = 4;

  const element = (kind, name, text = "") => {
    const made = document.createElement(kind);
    made.className = name;
    made.textContent = text;
    return made;
  };

  // The first knot at or behind a radius: a curve keeps that knot's value back to the one before.
  const knot = (radii, radius) => {
    let [low, high] = [0, radii.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (radii[middle] < radius) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  const percent = (value) => `${value.toFixed(1)} %`;

  const kinds = {
    curve: (at) => {
      // Rounded down before it is looked up, so that what is printed is true of what is printed.
      const radius = Math.floor(Math.max(at, 0) * 10 ** DIGITS) / 10 ** DIGITS;
      return {
        title: `radius ${radius.toFixed(DIGITS)}`,
        line: ({ x, customdata, meta }) => {
          const [count, share, lower] = customdata[knot(x, radius)] || [0, 0, 0];
          return `${count} of ${meta.images}: ${percent(share)}, at least ${percent(lower)}`;
        },
      };
    },
    histogram: (at, { bins }) => {
      const bin = Math.min(Math.max(Math.round(at) + 1, 0), bins.length - 1);
      // One empty bin lies before the first, so that its outline is closed.
      return { title: bins[bin], line: ({ y }) => `${y[bin + 1]}` };
    },
  };

  const show = (place, box, guide, pixels) => {
    const { xaxis, yaxis, meta } = place._fullLayout;
    const at = Math.min(Math.max(pixels - xaxis._offset, 0), xaxis._length);
    const { title, line } = kinds[meta.told](xaxis.p2d(at), meta);
    const lines = place._fullData.filter((trace) => trace.visible === true && trace.meta.name);
    box.replaceChildren(
      element("b", "", title),
      ...lines.map((trace) => {
        const row = element("div", "");
        const mark = element("i", "");
        mark.style.background = trace.line.color;
        row.append(mark, element("span", "", `${trace.meta.name}: `), line(trace));
        return row;
      }),
    );
    guide.style.left = `${place.offsetLeft + xaxis._offset + at}px`;
    guide.style.top = `${place.offsetTop + yaxis._offset}px`;
    guide.style.height = `${yaxis._length}px`;
    box.hidden = guide.hidden = !lines.length;
    // Beside the pointer, or below a chart that it would hide.
    const small = place.offsetWidth < 2.5 * box.offsetWidth;
    const top = yaxis._offset + (small ? yaxis._length + 24 : 6);
    box.style.top = `${place.offsetTop + top}px`;
    const room = place.offsetWidth - box.offsetWidth;
    const right = xaxis._offset + at + 12;
    const left = right <= room ? right : Math.max(0, xaxis._offset + at - 12 - box.offsetWidth);
    box.style.left = `${place.offsetLeft + left}px`;
  };

  return (place) => {
    const [box, guide] = [element("div", "told"), element("div", "guide")];
    box.hidden = guide.hidden = true;
    place.after(box, guide);
    // A tap is a movement of the mouse too.
    place.addEventListener("mousemove", (event) => {
      show(place, box, guide, event.clientX - place.getBoundingClientRect().left);
    });
    place.addEventListener("mouseleave", () => {
      box.hidden = guide.hidden = true;
    });
  };
})();
