// Values under the pointer: a guide line at the nearest epoch or threshold, and a box. Text only, never markup.
(() => {
  const tip = document.getElementById("tip");
  const element = (tag, text, style) => {
    const e = document.createElement(tag);
    e.textContent = text;
    Object.assign(e.style, style || {});
    return e;
  };
  for (const svg of document.querySelectorAll("svg[data-chart]")) {
    const chart = JSON.parse(svg.dataset.chart);
    const places = chart.series.flatMap((line) => line[2].map((point) => point[0]));
    if (!places.length) continue;
    let guide = null;
    svg.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const share = Math.min(1, Math.max(0, (at.x - chart.left) / (chart.right - chart.left)));
      const wanted = chart.start + share * (chart.end - chart.start);
      const place = places.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
      const x = chart.left + ((chart.right - chart.left) * (place - chart.start)) / (chart.end - chart.start);
      if (!guide) {
        guide = document.createElementNS("http://www.w3.org/2000/svg", "line");
        guide.setAttribute("class", "guide");
        svg.append(guide);
      }
      for (const [k, v] of Object.entries({ x1: x, x2: x, y1: chart.top, y2: chart.bottom })) guide.setAttribute(k, v);
      tip.replaceChildren(element("strong", chart.axis + " " + place));
      for (const [name, colour, points] of chart.series) {
        const point = points.find((p) => p[0] === place);
        if (!point) continue;
        const row = element("div", "");
        row.append(element("i", "", { background: colour }), element("span", name), element("b", point[1]));
        tip.append(row);
      }
      tip.hidden = false;
      const box = tip.getBoundingClientRect();
      const right = event.clientX + 16 + box.width < innerWidth;
      tip.style.left = (right ? event.clientX + 16 : event.clientX - 16 - box.width) + "px";
      tip.style.top = Math.min(event.clientY + 12, innerHeight - box.height - 8) + "px";
    });
    svg.addEventListener("pointerleave", () => {
      tip.hidden = true;
      if (guide) guide.remove();
      guide = null;
    });
  }
})();
