// The API's document, shown by Swagger UI. What is typed into "Authorize" stays in this tab.
window.SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", deepLinking: true, persistAuthorization: false });
