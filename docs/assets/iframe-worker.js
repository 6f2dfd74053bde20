/* A site that was opened from a directory may not start workers, and the search is one. There it runs in a hidden frame. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    onmessage = null;
    onerror = null;
    onmessageerror = null;

    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);

      const inside = this.frame.contentWindow;
      this.ready = new Promise((resolve) => {
        inside.postMessage = (data) => this.emit(new MessageEvent("message", { data }));
        const script = inside.document.createElement("script");
        script.src = new URL(url, location.href).href;
        script.onload = () => resolve(inside);
        script.onerror = () => this.emit(new ErrorEvent("error", { message: `${url} cannot be loaded` }));
        inside.document.head.append(script);
      });
    }

    emit(event) {
      this["on" + event.type]?.(event);
      this.dispatchEvent(event);
    }

    postMessage(data) {
      this.ready.then((inside) => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
