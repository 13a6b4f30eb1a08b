// Gestures on the canvas of the map, by mouse, pen and fingers: pointing, a press, a drag, two fingers, a wheel.

const CLICK_PX = 5; // a press that moves less is a click

// Calls the functions of `on` with places on the canvas, { x, y } in px. point(at): a mouse moves over it; leave(): it goes
// away; drag(from, last, at): a pressed pointer moves; pinch(at, right, down, factor): two fingers move, `at` is between
// them; press(at): pressed and let go; drop(from, at, added): a drag ends, with shift or without; stop(): a gesture is
// broken off; wheel(factor, at).
export function listen(canvas, on) {
  const pointers = new Map(); // id -> place, of those that are down
  let pressed = null; // what the pointers that are down do

  const placeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  function down(event) {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    const at = placeOf(event);
    pointers.set(event.pointerId, at);
    if (pointers.size > 1 && pressed?.moved) on.stop();
    pressed = pointers.size > 1 ? { pinch: true } : { from: at, last: at, moved: false, added: event.shiftKey };
  }

  function move(event) {
    const at = placeOf(event);
    if (!pointers.has(event.pointerId)) return event.pointerType === "mouse" && on.point(at);
    const before = pointers.get(event.pointerId);
    pointers.set(event.pointerId, at);
    if (pressed?.pinch) return pinch(event.pointerId, before, at);
    if (!pressed) return;
    pressed.moved ||= Math.hypot(at.x - pressed.from.x, at.y - pressed.from.y) > CLICK_PX;
    if (!pressed.moved) return;
    on.drag(pressed.from, pressed.last, at);
    pressed.last = at;
  }

  function pinch(id, before, at) {
    const other = [...pointers].find(([name]) => name !== id)?.[1];
    if (!other) return;
    const gap = (place) => Math.max(10, Math.hypot(place.x - other.x, place.y - other.y));
    const middle = { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 };
    on.pinch(middle, (at.x - before.x) / 2, (at.y - before.y) / 2, gap(at) / gap(before));
  }

  function up(event) {
    if (!pointers.delete(event.pointerId) || !pressed) return;
    const { pinch: pinched, moved, from, added } = pressed;
    if (pinched && pointers.size) return;
    pressed = null;
    if (pinched) return;
    if (!moved) on.press(from);
    else if (event.type === "pointercancel") on.stop();
    else on.drop(from, placeOf(event), added);
  }

  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => pressed || on.leave());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    on.wheel(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), placeOf(event));
  }, { passive: false });
}
